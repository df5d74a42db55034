"""Where text comes from: generated programs (embedded), JSONL files and hub data sets; tokenizer and rows of tokens.

`embedded.EmbeddedCorpus` generates the text, `settings.CorpusSettings` says which, `texts` reads other people's,
`rows` turns either into what a model is trained on. No module here needs torch.
"""
