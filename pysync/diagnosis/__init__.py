"""What is wrong and why: checks of servers, drift from what was installed, trials of changes."""
