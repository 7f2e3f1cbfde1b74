"""What the tests of several directories share: hostile classes, and child interpreters."""
