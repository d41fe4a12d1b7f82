"""Large numbers, counts and times in the unit that fits, for forecasts on a terminal."""


def large(number: int) -> str:
    """Return a large number in short form: 9,500, 12.3k, 4.1M, 2.0G."""
    size, unit = next(
        ((size, unit) for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if number >= max(size, 1e4)), (1.0, "")
    )
    return f"{number / size:,.1f}{unit}" if unit else f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Return a time in the unit that fits: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def counted(number: int, noun: str) -> str:
    """Return a number of things: 1 seed, 5 seeds."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def dollars(amount: float) -> str:
    """Return a price, in US dollars: $0.04, $1,200.00."""
    return f"${amount:,.2f}"
