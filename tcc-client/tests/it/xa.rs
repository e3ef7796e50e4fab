//! Tries that the database prepares.
