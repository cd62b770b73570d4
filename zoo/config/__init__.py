"""Configs: what may stand in one, how it is read and checked. Imports no jax."""

from zoo.config.load import ConfigError, UserError, load_config, parse_config

__all__ = ["ConfigError", "UserError", "load_config", "parse_config"]
