"""A plan whose numbers are made up."""

from zoo.planning.plan import Plan, Traffic
from zoo.planning.program import Operation


def a_plan(**changes) -> Plan:
    """Of a step that waits for its links, on 32 chips of two slices."""
    products = Operation("forward", "products", flops=10**13, bytes=10**10, seconds=0.05)
    backward = Operation("backward", "products", flops=10**12, bytes=10**11, seconds=0.13)
    update = Operation("update", "other", flops=0, bytes=10**9, seconds=0.002)
    given = {
        "program": "train",
        "topology": "v5e:4x4",
        "slices": 2,
        "num_chips": 32,
        "mesh": {"slices": 2, "data": 4, "fsdp": 4, "sequence": 1, "tensor": 1},
        "layout": {"mesh.data": 4, "mesh.fsdp": 4, "model.remat": "full", "accumulate": 2},
        "layout_text": "slices 2, data 4, fsdp 4; remat full, 2 microbatches",
        "num_params": 1_000_000,
        "memory": {"parameters": 2**28, "optimizer": 2**29, "activations and temporaries": 2**30},
        "peak_bytes": 2**28 + 2**29 + 2**30,
        "hbm_bytes": 16 * 2**30,
        "model_flops": 9e12,
        "executed_flops": 11 * 10**12,
        "moved_bytes": 111 * 10**9,
        "hbm_moved_bytes": 90 * 10**9,
        "traffic": (
            Traffic("all-gather", ("fsdp",), "links", 24, 3e9, 0.25),
            Traffic("all-reduce", ("slices",), "network", 3, 1e8, 0.03),
        ),
        "parts": (backward, products, update),
        "operations": (backward, products, update),
        "roofline_s": 0.182,
        "links_s": 0.25,
        "network_s": 0.03,
        "step_s": 0.25,
        "limit": "links",
        "mfu": 0.18,
        "examples_per_s": 1024.0,
        "tokens_per_s": 131072.0,
        "compile_s": 60.0,
        "total_steps": 1000,
        "hours": 250 / 3600,
        "chip_hours": 32 * 250 / 3600,
    }
    return Plan(**given | changes)
