//! The shim: what stands between the log and the disk, and the one place with `unsafe` in it.
//!
//! - `vfs`: a VFS around SQLite's own, for all that SQLite does;
//! - `files`: two functions of the C library, for what the store does to its files by itself.

#![expect(unsafe_code, reason = "a VFS is made of C functions")]

mod files;
mod vfs;

pub use vfs::install;
