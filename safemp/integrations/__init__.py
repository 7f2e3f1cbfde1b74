"""Adapters for libraries that want more than an executor. Each imports its library, and nothing imports them."""
