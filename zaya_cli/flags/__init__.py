"""What is typed: settings and their flags, variables, `config.toml`, and what is wrong with them."""
