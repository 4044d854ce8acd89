"""What is set on the command line, in variables and in `config.toml`."""
