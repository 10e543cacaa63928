"""Who calls and when: locust's users and shapes, and one chat at a time."""
