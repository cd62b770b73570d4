"""Plans in words, for a terminal."""

from zoo.planning.plan import Plan
from zoo.planning.search import Found

GIB, GB = 2**30, 1e9


def plan_lines(found: Plan) -> list[str]:
    """All that is known of one layout."""
    mesh = ", ".join(f"{axis} {size}" for axis, size in found.mesh.items() if size > 1) or "of one"
    fits = "fits" if found.fits else "does NOT fit"
    pod = found.topology if found.slices == 1 else f"{found.slices} slices of {found.topology}"
    bound = f", MFU {found.mfu:.0%} at most" if found.program == "train" else ""
    told = [
        f"{pod}: {found.num_chips} chips, mesh {mesh}; {found.num_params:,} parameters",
        "",
        f"memory of a device: {fits}",
        f"  {'peak':<34}{found.peak_bytes / GIB:8.2f} GiB of {found.hbm_bytes / GIB:.0f}",
        *(f"  {name:<34}{size / GIB:8.2f} GiB" for name, size in found.memory.items()),
        "",
        "a step, by the compiler's program and a model of its time: never measured",
        f"  {'at least':<34}{1e3 * found.step_s:8.1f} ms, limited by {found.limit}",
        f"  {'operations, roofline':<34}{1e3 * found.roofline_s:8.1f} ms",
        *(
            f"    {part.phase + ', ' + part.kind:<32}{1e3 * part.seconds:8.1f} ms"
            for part in found.parts
            if part.seconds > 0.01 * found.roofline_s
        ),
        f"  {'links':<34}{1e3 * found.links_s:8.1f} ms",
    ]
    if found.slices > 1:
        told.append(f"  {'network between slices':<34}{1e3 * found.network_s:8.1f} ms")
    told += [
        f"  {'executed':<34}{found.executed_flops / 1e12:8.2f} TFLOP a device",
        f"  {'of the model':<34}{found.model_flops / 1e12:8.2f} TFLOP{bound}",
        f"  {'moved':<34}{found.moved_bytes / GB:8.1f} GB, "
        f"{found.hbm_moved_bytes / GB:.1f} of them to HBM",
    ]
    if found.program != "decode":
        told.append(f"  {'examples':<34}{found.examples_per_s:8,.0f} a second")
    if found.tokens_per_s is not None:
        told.append(f"  {'tokens':<34}{found.tokens_per_s:8,.0f} a second")
    if found.traffic:
        told += ["", "collectives of a step, bytes that a device sends"]
    for one in found.traffic:
        name = f"{one.kind} over {' and '.join(one.axes) or 'parts of axes'}"
        told.append(
            f"  {name:<34}{one.wire_bytes / GB:8.2f} GB, {one.times:,} times, "
            f"{1e3 * one.seconds:.1f} ms"
        )
    if found.program != "train":
        return told
    if found.total_steps is None:
        return [*told, "", "the whole run: its total is in epochs, so give --examples N"]
    return [
        *told,
        "",
        f"the whole run: {found.total_steps:,} steps, {found.hours:,.1f} hours, "
        f"{found.chip_hours:,.0f} chip-hours at least",
    ]


def search_lines(found: Found) -> list[str]:
    """The layouts that were compiled, the best of them in full, and the flags that ask for it."""
    tried = len(found.plans) + len(found.too_large)
    told = [f"{found.considered:,} layouts, {tried} of them compiled", ""]
    rows = [f"  {'layout':<52}{'GiB':>7}{'ms':>9}{'MFU':>6}  limit"]
    for one in found.plans:
        rows.append(
            f"  {one.layout_text:<52}{one.peak_bytes / GIB:7.2f}{1e3 * one.step_s:9.1f}"
            f"{one.mfu:6.0%}  {one.limit}"
        )
    rows += [f"  {one.layout:<52}{one.needed / GIB:7.2f}  does not fit" for one in found.too_large]
    told += rows
    if not found.plans:
        return [*told, "", "none of them fits: take a larger pod, or a smaller batch"]
    best = found.plans[0]
    flags = " ".join(f"--config.{key}={value}" for key, value in best.layout.items())
    return [*told, "", f"the fastest: {flags}", "", *plan_lines(best)]
