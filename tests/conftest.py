"""Eight CPU devices, no silent broadcasting, programs that compile quickly rather than run so."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # The tests' models are tiny: their time is the compiler's.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
        "--xla_cpu_use_fusion_emitters=false" if version("jaxlib") < "0.11" else "",
    ]
)

import jax

# The flags are read here. The last one must be gone when the TPU compiler reads them: it is newer,
# does not know it, and would end the process.
jax.devices()
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("--xla_cpu_use_fusion_emitters=false", "")

jax.config.update("jax_numpy_rank_promotion", "raise")
# Many tests compile the same program, and so does the next run.
cache = Path(__file__).parents[1] / ".pytest_cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
