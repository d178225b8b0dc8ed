"""What carries rows: the registry, publications, slots, subscriptions, marks, snapshots, merge."""
