"""What jaxtyping's hook checks calls with: beartype, to which a whole number is a real one as well (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
