"""Users' own scans and masks -> a data set folder that trains, evaluates and can be checked; and its checker."""
