//! Hutch.
