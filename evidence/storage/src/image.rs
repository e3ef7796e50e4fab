//! What a power cut may leave: all that was synced, and of the rest any part.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use fastrand::Rng;

use crate::disk::{Event, File, Op};

/// What a disk writes whole or not at all; now and then not even that.
pub const SECTOR: u64 = 512;

/// The files that are there, and what they hold.
pub type Files = BTreeMap<File, Vec<u8>>;

/// A disk from its first moment on.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// What was there at first, durably.
    pub base: Files,
    /// What happened since.
    pub record: Vec<Event>,
}

/// The moment at which the power is cut.
#[derive(Debug)]
pub struct Cut<'a> {
    durable: Files,
    pending: BTreeMap<File, Vec<&'a Op>>,
}

/// The files as they may be found when the power is back.
#[derive(Debug)]
pub struct Image {
    /// They.
    pub files: Files,
    /// Pieces of writes that did not make it.
    pub lost: usize,
    /// Pieces of writes that made it without having been synced.
    pub kept: usize,
    /// Frames of the WAL of which a part made it.
    pub torn_frames: usize,
    /// Pages of the database of which a part made it.
    pub torn_pages: usize,
}

/// How the writes to a file fare that were not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// None made it.
    Lost,
    /// All made it: the process died and the machine did not.
    Kept,
    /// They made it in order up to a point.
    InOrder,
    /// Each sector fares for itself; so many in a hundred make it.
    Sectors(u8),
}

impl Recording {
    /// The state after so many events.
    #[must_use]
    pub fn cut(&self, at: usize) -> Cut<'_> {
        let mut durable = self.base.clone();
        let mut pending: BTreeMap<File, Vec<(usize, &Op)>> = BTreeMap::new();
        for (place, event) in self.record.iter().enumerate().take(at) {
            let waiting: &mut Vec<_> = pending.entry(event.file).or_default();
            match &event.op {
                Op::Sync { upto } => {
                    let done = waiting.partition_point(|(place, _)| place < upto);
                    for (_, op) in waiting.drain(..done) {
                        apply(&mut durable, event.file, op);
                    }
                    // With its first sync SQLite syncs the folder, so an empty file is there as well.
                    durable.entry(event.file).or_default();
                }
                Op::Delete { durable: true } => {
                    waiting.clear();
                    durable.remove(&event.file);
                }
                Op::SyncFolder => {
                    for (file, waiting) in &mut pending {
                        sync_name(&mut durable, *file, waiting);
                    }
                }
                Op::Create | Op::Write { .. } | Op::Truncate { .. } | Op::Delete { durable: false } => {
                    waiting.push((place, &event.op));
                }
                Op::Read => {}
            }
        }
        let pending = pending
            .into_iter()
            .map(|(file, waiting)| (file, waiting.into_iter().map(|(_, op)| op).collect()))
            .collect();
        Cut { durable, pending }
    }
}

impl Cut<'_> {
    /// Whether something was written to a file and not synced.
    #[must_use]
    pub fn is_pending(&self, file: File) -> bool {
        self.waiting(file).iter().any(|op| matches!(op, Op::Write { .. }))
    }

    /// Whether a WAL was begun anew over, or after, an old one, and that is not durable.
    #[must_use]
    pub fn wal_restarts(&self) -> bool {
        let anew = |op: &&Op| matches!(op, Op::Truncate { .. } | Op::Write { offset: 0, .. });
        self.durable.get(&File::Wal).is_some_and(|wal| !wal.is_empty())
            && self.waiting(File::Wal).iter().any(anew)
    }

    fn waiting(&self, file: File) -> &[&Op] {
        self.pending.get(&file).map_or(&[], Vec::as_slice)
    }

    /// The files as the next process finds them if the machine stays up.
    #[must_use]
    pub fn as_it_is(&self) -> Image {
        self.build(&mut Rng::with_seed(0), |_, _| Fate::Kept)
    }

    /// The files if nothing made it that was not synced.
    #[must_use]
    pub fn as_synced(&self) -> Image {
        self.build(&mut Rng::with_seed(0), |_, _| Fate::Lost)
    }

    /// The disk from this moment on when only the process died, and a `record` of what the next one did.
    ///
    /// If `forgets`, a sync failed or will: the machine still shows what was written, takes it for written, and
    /// makes none of it durable with the next sync, which succeeds. (Source: A. Rebello et al., *Can Applications
    /// Recover from fsync Failures?*, USENIX ATC 2020.)
    #[must_use]
    pub fn went_on(&self, mut record: Vec<Event>, forgets: bool) -> Recording {
        let mut all = Vec::new();
        if !forgets {
            for (file, ops) in &self.pending {
                all.extend(ops.iter().map(|op| Event { file: *file, op: (*op).clone() }));
            }
        }
        let before = all.len();
        for event in &mut record {
            if let Op::Sync { upto } = &mut event.op {
                *upto += before;
            }
        }
        all.append(&mut record);
        Recording { base: self.durable.clone(), record: all }
    }

    /// One of the images that this moment may leave.
    #[must_use]
    pub fn image(&self, rng: &mut Rng) -> Image {
        self.build(rng, |rng, _| match rng.u8(0..8) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 | 3 => Fate::InOrder,
            4 => Fate::Sectors(95),
            5 => Fate::Sectors(50),
            _ => Fate::Sectors(rng.u8(1..100)),
        })
    }

    fn build(&self, rng: &mut Rng, fate: impl Fn(&mut Rng, File) -> Fate) -> Image {
        let files = self.durable.clone();
        let mut image = Image { files, lost: 0, kept: 0, torn_frames: 0, torn_pages: 0 };
        for (file, ops) in &self.pending {
            let fate = fate(rng, *file);
            let stop = rng.usize(0..=ops.len());
            for (place, op) in ops.iter().enumerate() {
                match fate {
                    Fate::Lost => image.lost += 1,
                    Fate::Kept => image.keep(*file, op),
                    Fate::InOrder if place < stop => image.keep(*file, op),
                    // The last one is torn.
                    Fate::InOrder if place == stop => image.tear(*file, op, 50, rng),
                    Fate::InOrder => image.lost += 1,
                    Fate::Sectors(percent) => image.tear(*file, op, percent, rng),
                }
            }
        }
        image
    }
}

impl Image {
    fn keep(&mut self, file: File, op: &Op) {
        apply(&mut self.files, file, op);
        self.kept += 1;
    }

    /// Of a write each sector makes it or not; anything else makes it or not as a whole.
    fn tear(&mut self, file: File, op: &Op, percent: u8, rng: &mut Rng) {
        let Op::Write { offset, bytes, .. } = op else {
            if rng.u8(0..100) < percent {
                self.keep(file, op)
            } else {
                self.lost += 1
            }
            return;
        };
        let (mut kept, mut lost, mut at) = (0, 0, 0);
        while at < bytes.len() {
            let place = offset + at as u64;
            let length = ((SECTOR - place % SECTOR) as usize).min(bytes.len() - at);
            let mut piece = &bytes[at..at + length];
            at += length;
            if rng.u8(0..100) >= percent {
                lost += 1;
                // The file may have become longer all the same, and then nothing was ever written there.
                if rng.u8(0..4) == 0
                    && let Some(content) = self.files.get_mut(&file)
                {
                    let end = place as usize + length;
                    content.resize(content.len().max(end), 0);
                }
                continue;
            }
            if rng.u8(0..32) == 0 {
                // Power that fades within a sector: SQLite counts on what is not written staying as it was.
                piece = &piece[..rng.usize(0..piece.len())];
                lost += 1;
            }
            put(self.files.entry(file).or_default(), place, piece);
            kept += 1;
        }
        if kept > 0 && lost > 0 {
            match file {
                File::Wal => self.torn_frames += 1,
                File::Db => self.torn_pages += 1,
                File::Journal => {}
            }
        }
        self.kept += kept;
        self.lost += lost;
    }

    /// Puts the files into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        self.files.iter().try_for_each(|(file, bytes)| fs::write(folder.join(file.name()), bytes))
    }
}

/// Makes durable that a file is there, or is not; what was written to it since is not.
fn sync_name(durable: &mut Files, file: File, waiting: &mut Vec<(usize, &Op)>) {
    let deleted = waiting.iter().rposition(|(_, op)| matches!(op, Op::Delete { .. }));
    for (_, op) in waiting.drain(..deleted.map_or(0, |place| place + 1)) {
        apply(durable, file, op);
    }
    if let Some(created) = waiting.iter().position(|(_, op)| matches!(op, Op::Create)) {
        apply(durable, file, waiting.remove(created).1);
    }
}

fn apply(files: &mut Files, file: File, op: &Op) {
    match op {
        Op::Create => drop(files.entry(file).or_default()),
        Op::Write { offset, bytes, .. } => put(files.entry(file).or_default(), *offset, bytes),
        Op::Truncate { size } => files.entry(file).or_default().resize(*size as usize, 0),
        Op::Delete { .. } => drop(files.remove(&file)),
        Op::Sync { .. } | Op::SyncFolder | Op::Read => {}
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    let end = start + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}
