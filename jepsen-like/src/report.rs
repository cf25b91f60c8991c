//! What people read of a run: a single HTML file, and its JSON.
