"""Numbers as people read them."""


def percent(fraction: float, digits: int = 1) -> str:
    """`97.2 %`; never 100 % for what is a little less."""
    text = f"{100 * fraction:.{digits}f}"
    if fraction < 1 and float(text) == 100:
        text = f"{100 - 10.0**-digits:.{digits}f}"
    return f"{text} %"


def exact_number(value: float) -> str:
    """Four digits, or all before the point: 0.02798, 9,484, 3.00e-05; as the script writes them."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`2 h 05 min`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {left:02} s" if minutes else f"{seconds:.2g} s"
