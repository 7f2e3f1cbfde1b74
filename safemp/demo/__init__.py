"""What ``python -m safemp demo`` runs: a batch of chat prompts through two kinds of pool.

The modules are small and importable, as a user's would be: workers import
``safemp.demo.client`` and find it. Nothing here is part of the public interface.
"""
