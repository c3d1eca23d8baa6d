"""What `headrace doctor` looks at: each check is a function of the settings, gives a Finding and changes nothing."""
