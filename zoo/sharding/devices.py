"""What a chip can do: peak matrix throughput, for MFU."""

import time

import jax
import jax.numpy as jnp

# Dense bfloat16 FLOP/s of one JAX device, from the makers' public specifications. On v2, v3 and
# TPU7x a chip shows as two devices.
PEAK_FLOPS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}


def peak_flops(device: jax.Device) -> float:
    """FLOP/s that a device could reach: from the table, or measured where it has no entry.

    A CPU is measured by float32 matmuls, the best of five; faked CPU devices share one CPU, and
    so does their peak.
    """
    for kind in sorted(PEAK_FLOPS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return PEAK_FLOPS[kind]
    return _measured_peak(device) / (jax.local_device_count() if device.platform == "cpu" else 1)


def _measured_peak(device: jax.Device, size: int = 1024) -> float:
    x = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    matmul = jax.jit(lambda x: x @ x)
    matmul(x).block_until_ready()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        matmul(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
