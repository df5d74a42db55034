"""Configuration of the bottleneck adapters."""

from dataclasses import dataclass, field

from peft import PeftConfig, PeftType

PEFT_TYPE = "BOTTLENECK"
"""Name of the method in PEFT's registry and in a saved ``adapter_config.json``."""

VARIANTS = ("adapterh", "adapterp", "parallel")
"""Placements: before and after the feed-forward network, after it, beside the attention's input projection."""

_MODULE_FIELDS = ("input_modules", "output_modules", "parallel_modules")


def add_peft_type() -> None:
    """Add `PEFT_TYPE` to PEFT's enumeration of methods; do nothing if it is there.

    PEFT's registry accepts only members of that enumeration and offers no way to add one (peft 0.21), so the member is
    made as the enumeration makes its own. A test holds this to the pinned version.
    """
    if PEFT_TYPE in PeftType.__members__:
        return
    member = str.__new__(PeftType, PEFT_TYPE)
    member._name_ = PEFT_TYPE
    member._value_ = PEFT_TYPE
    member._sort_order_ = len(PeftType)
    member.__objclass__ = PeftType
    # Set before it enters the member map, which forbids setting it; from Python 3.12 members are class attributes.
    type.__setattr__(PeftType, PEFT_TYPE, member)
    PeftType._member_names_.append(PEFT_TYPE)
    PeftType._member_map_[PEFT_TYPE] = member
    PeftType._value2member_map_[PEFT_TYPE] = member


@dataclass
class BottleneckConfig(PeftConfig):
    """Configuration of bottleneck adapters: delta(z) = s U tanh(D z), D of shape (b, in), U of shape (out, b).

    Parameters
    ----------
    variant : {"adapterh", "adapterp", "parallel"}, optional
        Placement in a known architecture: ``adapterh`` adapts the feed-forward network's input, x + delta(x), and its
        output, y + delta(y); ``adapterp`` its output only; ``parallel`` adds delta(x) to the output of every module
        that projects x to queries, keys or values: one bottleneck where they are fused, three where they are split.
    input_modules, output_modules, parallel_modules : list of str, optional
        Modules adapted at their input, at their output, and beside them, as the ends of their dotted names. Given
        instead of, or to overrule, the variant's placement; filled from the variant otherwise.
    target_modules : list of str, optional
        Union of the three lists, kept for PEFT; derived, so leave it out.
    bottleneck_size : int
        Width b of the bottleneck.
    scaling : float
        Factor s.
    init_std : float
        Standard deviation of the normal draw for D and U.
    init_identity : bool
        Start from U = 0: the adapted model begins as the base model. The study did not.

    Raises
    ------
    ValueError
        If the variant is unknown, neither variant nor modules are given, ``target_modules`` is given and is not the
        union, or a number is out of range.

    References
    ----------
    Houlsby et al. 2019, arXiv 1902.00751 (AdapterH); Pfeiffer et al. 2021, arXiv 2005.00247 (AdapterP);
    He et al. 2022, arXiv 2110.04366 (Parallel); placements and values of Zhuo et al. 2024, arXiv 2401.00788.
    """

    variant: str | None = field(default=None, metadata={"help": f"Placement: {', '.join(VARIANTS)}"})
    input_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted at their input"})
    output_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted at their output"})
    parallel_modules: list[str] | None = field(default=None, metadata={"help": "Modules adapted beside them"})
    target_modules: list[str] | None = field(default=None, metadata={"help": "Union of the three lists"})
    bottleneck_size: int = field(default=256, metadata={"help": "Width of the bottleneck"})
    scaling: float = field(default=1.0, metadata={"help": "Factor of the adapter's output"})
    init_std: float = field(default=0.02, metadata={"help": "Standard deviation of the initial weights"})
    init_identity: bool = field(default=False, metadata={"help": "Start from an up-projection of zeros"})

    def __post_init__(self) -> None:
        """Check the values and derive ``target_modules``."""
        super().__post_init__()
        self.peft_type = PeftType(PEFT_TYPE)
        if self.variant is not None and self.variant not in VARIANTS:
            raise ValueError(f"unknown adapter variant {self.variant!r}; choose from {', '.join(VARIANTS)}")
        if self.variant is None and not self.has_modules():
            raise ValueError(
                f"bottleneck adapters need a place: give variant ({', '.join(VARIANTS)}) "
                f"or at least one of {', '.join(_MODULE_FIELDS)}"
            )
        if self.bottleneck_size < 1:
            raise ValueError(f"bottleneck_size is {self.bottleneck_size}; it must be at least 1")
        if self.init_std <= 0:
            raise ValueError(f"init_std is {self.init_std}; it must be positive (init_identity=True starts from U = 0)")
        given = self.target_modules
        self.set_modules(self.input_modules, self.output_modules, self.parallel_modules)
        # A saved configuration carries the union; anything else would be lost without a word.
        if given is not None and list(given) != self.target_modules:
            raise ValueError(
                f"target_modules={given!r} does not say where bottlenecks go; leave it out, "
                f"and give variant or {', '.join(_MODULE_FIELDS)}"
            )

    def has_modules(self) -> bool:
        """Return whether any module list is given."""
        return any(getattr(self, name) for name in _MODULE_FIELDS)

    def set_modules(
        self,
        input_modules: list[str] | None = None,
        output_modules: list[str] | None = None,
        parallel_modules: list[str] | None = None,
    ) -> None:
        """Set where the adapters are, and ``target_modules`` to the union."""
        self.input_modules = _as_list(input_modules)
        self.output_modules = _as_list(output_modules)
        self.parallel_modules = _as_list(parallel_modules)
        lists = [getattr(self, name) or [] for name in _MODULE_FIELDS]
        # An ordered union: a set would be saved in a different order each time.
        self.target_modules = list(dict.fromkeys(name for names in lists for name in names)) or None

    def positions_of(self, key: str) -> tuple[str, ...]:
        """Return where the module named ``key`` is adapted: any of ``input``, ``parallel``, ``output``."""
        places = {"input": self.input_modules, "parallel": self.parallel_modules, "output": self.output_modules}
        return tuple(
            place
            for place, names in places.items()
            if any(key == name or key.endswith(f".{name}") for name in names or ())
        )


def _as_list(names: list[str] | None) -> list[str] | None:
    return None if names is None else list(names)
