//! To come.

pub mod container;
