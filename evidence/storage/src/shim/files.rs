//! `write` and `fsync`, as Rust's standard library calls them: the store syncs the folder and writes its WAL anew
//! without SQLite.
//!
//! The linker takes the ones here before those of the C library. All but what concerns a watched folder passes.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs;
use std::path::PathBuf;

use crate::disk::{Disk, File, Op};

#[repr(C)]
struct Slice {
    start: *const c_void,
    length: usize,
}

unsafe extern "C" {
    safe fn fdatasync(fd: c_int) -> c_int;
    safe fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn writev(fd: c_int, slices: *const Slice, count: c_int) -> isize;
}

const SEEK_CUR: c_int = 1;

thread_local! {
    /// Whether this thread is in a call of the VFS, which is told of anyway.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call of the VFS below, of which nothing is to be heard here.
pub(super) fn unheard<T>(call: impl FnOnce() -> T) -> T {
    let outer = INSIDE.replace(true);
    let result = call();
    INSIDE.set(outer);
    result
}

/// What a descriptor stands for, if anybody could be watching.
fn path(fd: c_int) -> Option<PathBuf> {
    if INSIDE.get() || !Disk::any() {
        return None;
    }
    fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    let Some(path) = path(fd) else { return fdatasync(fd) };
    if let Some(disk) = Disk::at(&path) {
        disk.own(Op::SyncFolder, File::Db);
    } else if let Some((disk, file)) = Disk::of(&path) {
        disk.own(Op::Sync { upto: disk.position() }, file);
    } else {
        return fdatasync(fd);
    }
    // What is durable is what the record says; syncing the real disk as well would only take time.
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, start: *const c_void, length: usize) -> isize {
    let offset = path(fd).and_then(|path| Disk::of(&path)).map(|found| (found, lseek(fd, 0, SEEK_CUR)));
    let slice = Slice { start, length };
    // SAFETY: one slice, and the caller vouches for it as for any write.
    let written = unsafe { writev(fd, &raw const slice, 1) };
    if let Some(((disk, file), offset)) = offset
        && let Ok(length) = usize::try_from(written)
        && length > 0
    {
        // SAFETY: so many bytes were just read from there.
        let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) }.to_vec();
        disk.own(Op::Write { offset: offset.cast_unsigned(), bytes, grows: false }, file);
    }
    written
}

/// # Panics
/// When the linker took the functions of the C library, and nothing would be heard.
pub(super) fn check() {
    let hook = fsync as extern "C" fn(c_int) -> c_int as usize;
    unsafe extern "C" {
        #[link_name = "fsync"]
        fn linked(fd: c_int) -> c_int;
    }
    let linked = linked as unsafe extern "C" fn(c_int) -> c_int as usize;
    assert_eq!(hook, linked, "fsync is not ours");
}
