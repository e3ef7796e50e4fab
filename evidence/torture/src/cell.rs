//! Crash points by name: `shape/outcome/site:moment`.
//!
//! | name | what dies |
//! |---|---|
//! | `tcc/confirmed/decision:before` | the coordinator, before the decision is written |
//! | `saga/cancelled/progress:after:3` | the coordinator, after the third result in between was written |
//! | `tcc/confirmed/progress:none:1` | nobody, for there is no such write; were there one, this would find it |
//! | `tcc/confirmed/b-try:before-commit` | the service of branch b, with its try done and not committed |

use std::fmt;

use tcc_client::Operation;
use tcc_server::crash::{Moment, Site};

use crate::plan::{Dies, Plan};
use crate::shape::{Outcome, Shape};

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The coordinator, around its n-th write of this site.
    Write(Site, Moment, u32),
    /// Nowhere: there is no n-th write of this site.
    NoWrite(Site, u32),
    /// The service of a branch, or of the check, in this operation.
    Service(&'static str, Operation, Dies),
}

/// A crash point of a shape that ends so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The shape.
    pub shape: Shape,
    /// Its end.
    pub outcome: Outcome,
    /// The crash point.
    pub point: Point,
}

impl Cell {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let ends =
            |shape: &Shape| shape.outcomes().iter().map(|outcome| (*shape, *outcome)).collect::<Vec<_>>();
        let mut cells = Vec::new();
        for (shape, outcome) in Shape::ALL.iter().flat_map(ends) {
            let points = Site::ALL.into_iter().flat_map(|site| writes(shape, outcome, site));
            let points = points.chain(services(shape, outcome));
            cells.extend(points.map(|point| Self { shape, outcome, point }));
        }
        cells
    }

    /// Why nobody dies there.
    #[must_use]
    pub fn why_none(&self) -> Option<&'static str> {
        match self.point {
            Point::NoWrite(site, 1) => self.shape.why_none(self.outcome, site),
            Point::NoWrite(..) => Some("there are no more of them"),
            Point::Write(..) | Point::Service(..) => None,
        }
    }
}

fn writes(shape: Shape, outcome: Outcome, site: Site) -> Vec<Point> {
    let (surely, most) = shape.writes(outcome, site);
    let around = |nth| [Moment::Before, Moment::After].map(|moment| Point::Write(site, moment, nth));
    let mut points: Vec<Point> = (1..=surely).flat_map(around).collect();
    // Those who purge do so again and again.
    if site != Site::Purge {
        points.push(Point::NoWrite(site, most + 1));
    }
    points
}

fn services(shape: Shape, outcome: Outcome) -> Vec<Point> {
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let operations = Plan::new(shape, outcome, String::new(), [nowhere; 2]).operations();
    let both = |(branch, operation, can): (&'static str, Operation, [bool; 2])| {
        let dies = [Dies::BeforeCommit, Dies::AfterCommit].into_iter().zip(can);
        dies.filter(|(_, can)| *can).map(move |(dies, _)| Point::Service(branch, operation, dies))
    };
    operations.into_iter().flat_map(both).collect()
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.shape.word(), self.outcome.word(), self.point)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, nth) = match self {
            Self::Write(site, Moment::Before, nth) => (format!("{}:before", site.word()), *nth),
            Self::Write(site, Moment::After, nth) => (format!("{}:after", site.word()), *nth),
            Self::NoWrite(site, nth) => return write!(f, "{}:none:{nth}", site.word()),
            Self::Service(_, Operation::Check, Dies::BeforeCommit) => return f.write_str("check:before"),
            Self::Service(_, Operation::Check, Dies::AfterCommit) => return f.write_str("check:after"),
            Self::Service(branch, operation, Dies::BeforeCommit) => {
                return write!(f, "{branch}-{operation}:before-commit");
            }
            Self::Service(branch, operation, Dies::AfterCommit) => {
                return write!(f, "{branch}-{operation}:after-commit");
            }
        };
        if nth == 1 { f.write_str(&word) } else { write!(f, "{word}:{nth}") }
    }
}
