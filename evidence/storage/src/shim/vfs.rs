//! A VFS around SQLite's own.
//!
//! It becomes the default of the process, so that whoever opens a file through SQLite comes by here. Files in a
//! folder that a [`Disk`] watches are told to it, call by call; all others pass through.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Once};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::files;
use crate::disk::{Disk, File, Op, Verdict};

/// An open file as SQLite holds it: our part first, the part of the VFS below right behind it.
#[repr(C)]
struct Open {
    base: sqlite3_file,
    /// Whom to tell; null if nobody watches. From `Box::into_raw`, freed by [`close`].
    watched: *mut Watched,
}

struct Watched {
    disk: Arc<Disk>,
    file: File,
}

/// Makes the shim the default VFS of the process. Connections opened before keep theirs.
///
/// # Panics
/// When SQLite does not take it.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        files::check();
        // SAFETY: with a null name SQLite gives its default VFS, which lives as long as the process. The copy of it
        // is leaked, so it does too, as `sqlite3_vfs_register` wants it.
        let registered = unsafe {
            let below = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!below.is_null(), "SQLite has no default VFS");
            let ours = sqlite3_vfs {
                szOsFile: size_of::<Open>() as c_int + (*below).szOsFile,
                pNext: ptr::null_mut(),
                zName: c"tcc-storage".as_ptr(),
                pAppData: below.cast(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*below
            };
            ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 1)
        };
        assert_eq!(registered, ffi::SQLITE_OK, "SQLite does not take the VFS");
    });
}

/// The VFS below one that [`install`] made.
///
/// # Safety
/// `vfs` is the VFS that [`install`] made.
unsafe fn below(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: `install` put it there.
    unsafe { (*vfs).pAppData.cast() }
}

/// The file as the VFS below knows it.
///
/// # Safety
/// `file` points at the `szOsFile` bytes that SQLite set aside for [`open`].
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `install` asked for room for both, and two pointers keep the alignment SQLite gives.
    unsafe { file.cast::<u8>().add(size_of::<Open>()).cast() }
}

/// Who is to be told of a file.
///
/// # Safety
/// As [`real`], after [`open`] and before [`close`].
unsafe fn watched<'a>(file: *mut sqlite3_file) -> Option<&'a Watched> {
    // SAFETY: null, or a box that `close` has not freed; SQLite uses no file after its close.
    unsafe { (*file.cast::<Open>()).watched.as_ref() }
}

/// # Safety
/// `name` is null or a string of C.
unsafe fn path<'a>(name: *const c_char) -> Option<&'a Path> {
    // SAFETY: checked for null; SQLite's names end in a zero and outlive the call.
    (!name.is_null()).then(|| Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())))
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over its VFS, a name and as many bytes as `szOsFile` says; each is used as it says.
    unsafe {
        let watched = path(name).and_then(Disk::of);
        let existed = path(name).is_some_and(Path::exists);
        let ours = file.cast::<Open>();
        ptr::write(ours, Open { base: sqlite3_file { pMethods: ptr::null() }, watched: ptr::null_mut() });
        let below = below(vfs);
        let Some(x_open) = (*below).xOpen else { return ffi::SQLITE_CANTOPEN };
        let code = x_open(below, name, real(file), flags, out_flags);
        if (*real(file)).pMethods.is_null() {
            return code;
        }
        (*ours).base.pMethods = &raw const METHODS;
        if let Some((disk, file)) = watched.filter(|_| code == ffi::SQLITE_OK) {
            if !existed {
                disk.happened(Op::Create, file);
            }
            (*ours).watched = Box::into_raw(Box::new(Watched { disk, file }));
        }
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite hands over its VFS and a name.
    unsafe {
        let below = below(vfs);
        let Some(x_delete) = (*below).xDelete else { return ffi::SQLITE_IOERR };
        let code = files::unheard(|| x_delete(below, name, sync));
        if let Some((disk, file)) = path(name).and_then(Disk::of).filter(|_| code == ffi::SQLITE_OK) {
            disk.happened(Op::Delete { durable: sync != 0 }, file);
        }
        code
    }
}

/// Calls a method of the file below.
macro_rules! pass {
    ($method:ident($file:expr $(, $argument:expr)*)) => {{
        let file = real($file);
        match (*(*file).pMethods).$method {
            Some(method) => method(file $(, $argument)*),
            None => ffi::SQLITE_IOERR,
        }
    }};
}

/// Methods that do nothing but pass.
macro_rules! passing {
    ($($name:ident = $method:ident($($argument:ident: $type:ty),*);)+) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: the file is one that `open` opened, and the arguments are what the VFS below is to get.
            unsafe { pass!($method(file $(, $argument)*)) }
        })+
    };
}

passing! {
    size = xFileSize(out: *mut sqlite3_int64);
    lock = xLock(level: c_int);
    unlock = xUnlock(level: c_int);
    reserved = xCheckReservedLock(out: *mut c_int);
    control = xFileControl(op: c_int, argument: *mut c_void);
    sector = xSectorSize();
    device = xDeviceCharacteristics();
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void);
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int);
    shm_unmap = xShmUnmap(delete: c_int);
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: the file is one that `open` opened.
    unsafe {
        let file = real(file);
        if let Some(method) = (*(*file).pMethods).xShmBarrier {
            method(file);
        }
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file that `open` opened, once.
    unsafe {
        let code = pass!(xClose(file));
        let ours = file.cast::<Open>();
        if !(*ours).watched.is_null() {
            drop(Box::from_raw((*ours).watched));
            (*ours).watched = ptr::null_mut();
        }
        code
    }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is one that `open` opened, `into` has room for `length` bytes.
    unsafe {
        if let Some(Watched { disk, file }) = watched(file)
            && let Verdict::Fail { code, .. } = disk.asked(&Op::Read, *file)
        {
            return code;
        }
        pass!(xRead(file, into, length, offset))
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is one that `open` opened, `from` has `length` bytes.
    unsafe {
        let Some(Watched { disk, file: kind }) = watched(file) else {
            return pass!(xWrite(file, from, length, offset));
        };
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length.unsigned_abs() as usize);
        let at = offset.cast_unsigned();
        let mut there: sqlite3_int64 = 0;
        let known = pass!(xFileSize(file, &raw mut there)) == ffi::SQLITE_OK;
        let grows = known && offset + sqlite3_int64::from(length) > there;
        let written = |bytes: &[u8]| Op::Write { offset: at, bytes: bytes.to_vec(), grows };
        match disk.asked(&written(bytes), *kind) {
            Verdict::Pass | Verdict::Lie => {
                let code = files::unheard(|| pass!(xWrite(file, from, length, offset)));
                if code == ffi::SQLITE_OK {
                    disk.happened(written(bytes), *kind);
                }
                code
            }
            Verdict::Fail { code, keep } => {
                // As `write(2)` does it: what was taken is a part from the front.
                let part = &bytes[..keep.min(bytes.len())];
                let length = part.len() as c_int;
                let write = || pass!(xWrite(file, from, length, offset));
                if length > 0 && files::unheard(write) == ffi::SQLITE_OK {
                    disk.happened(written(part), *kind);
                }
                code
            }
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let op = Op::Truncate { size: size.cast_unsigned() };
    // SAFETY: the file is one that `open` opened.
    unsafe { judged(file, op, |file| pass!(xTruncate(file, size))) }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is one that `open` opened.
    unsafe {
        let Some(Watched { disk, .. }) = watched(file) else { return pass!(xSync(file, flags)) };
        // What is durable is what the record says; syncing the real disk as well would only take time.
        let upto = disk.position();
        judged(file, Op::Sync { upto }, |_| ffi::SQLITE_OK)
    }
}

/// Makes a call, unless the disk says otherwise, and tells it.
///
/// # Safety
/// The file is one that [`open`] opened.
unsafe fn judged(file: *mut sqlite3_file, op: Op, make: impl FnOnce(*mut sqlite3_file) -> c_int) -> c_int {
    // SAFETY: as the caller says.
    let Some(Watched { disk, file: kind }) = (unsafe { watched(file) }) else { return make(file) };
    match disk.asked(&op, *kind) {
        Verdict::Pass => {
            let code = make(file);
            if code == ffi::SQLITE_OK {
                disk.happened(op, *kind);
            }
            code
        }
        Verdict::Lie => ffi::SQLITE_OK,
        Verdict::Fail { code, .. } => code,
    }
}

/// Version 2: without memory-mapped files, which would change without anybody being told.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector),
    xDeviceCharacteristics: Some(device),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
