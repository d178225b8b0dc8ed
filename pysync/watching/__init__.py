"""What people and monitoring systems look at: status, doctor, guard, the served page."""
