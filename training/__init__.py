"""Train and count grids of tuned language models: sizes by tuning methods by seeds.

torch is used in this package and nowhere else in the project. What describes a run (`training.spec`,
`training.models.architectures`) can be imported without it.
"""
