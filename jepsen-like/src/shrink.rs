//! Makes a failing run small: fewer faults, fewer clients, less time.
