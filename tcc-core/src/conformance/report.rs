//! What the suite found.

use std::fmt;

use super::Promise;

/// What one run found.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Report {
    /// Every check, in the order in which they were played.
    pub checks: Vec<Check>,
}

/// What one check found.
#[derive(Clone, Debug)]
pub struct Check {
    /// What should hold, in words joined by `_`.
    pub name: &'static str,
    /// What it is about.
    pub promise: Promise,
    /// Whether it holds.
    pub verdict: Verdict,
    /// What was done and what came, in order.
    pub steps: Vec<String>,
    /// What to do where it does not hold.
    pub mend: &'static str,
}

/// Whether a check holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does, as far as this tells.
    Kept(Evidence),
    /// It does not, for this reason.
    Broken(String),
    /// Nobody can say, for this reason: no answer came, or something else went wrong first.
    Unclear(String),
    /// It was not looked at, for this reason.
    NotTested(String),
}

/// What a check that is kept was seen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// All that it is about was seen.
    All,
    /// The answers were as they have to be. What was done could not be seen.
    Answers,
}

impl Report {
    /// Whether no check is broken or unclear. Some may not have been tested.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.verdict, Verdict::Broken(_) | Verdict::Unclear(_)))
    }

    /// Whether every check was tested and is kept, and all that they are about was seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.checks.iter().all(|check| check.verdict == Verdict::Kept(Evidence::All))
    }

    /// Those that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| matches!(check.verdict, Verdict::Broken(_)))
    }

    /// What it comes to, in a line or two.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |is: fn(&Verdict) -> bool| self.checks.iter().filter(|check| is(&check.verdict)).count();
        let kept = count(|verdict| matches!(verdict, Verdict::Kept(_)));
        let by_answers = count(|verdict| *verdict == Verdict::Kept(Evidence::Answers));
        let broken = count(|verdict| matches!(verdict, Verdict::Broken(_)));
        let unclear = count(|verdict| matches!(verdict, Verdict::Unclear(_)));
        let untested = count(|verdict| matches!(verdict, Verdict::NotTested(_)));
        let mut text = format!("{kept} kept, {broken} broken, {unclear} unclear, {untested} not tested");
        if by_answers > 0 {
            text += &format!(
                "\n{by_answers} of those kept were seen by their answers alone: whether a call had an effect, \
                 or a second one, only an effect can tell"
            );
        }
        text
    }
}

impl Check {
    /// Whether it is kept.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        matches!(self.verdict, Verdict::Kept(_))
    }
}

impl Verdict {
    /// One word for it, or two.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Kept(_) => "kept",
            Self::Broken(_) => "broken",
            Self::Unclear(_) => "unclear",
            Self::NotTested(_) => "not tested",
        }
    }

    /// Why, where it is not kept.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Kept(_) => None,
            Self::Broken(why) | Self::Unclear(why) | Self::NotTested(why) => Some(why),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Broken(_) => "BROKEN",
            Verdict::Unclear(_) => "UNCLEAR",
            Verdict::Kept(_) | Verdict::NotTested(_) => self.verdict.as_str(),
        };
        write!(f, "{word:10} {:7} {}", self.promise.as_str(), self.name.replace('_', " "))?;
        let steps = self.steps.join(", ");
        match &self.verdict {
            Verdict::Kept(Evidence::All) => write!(f, ": {steps}"),
            Verdict::Kept(Evidence::Answers) => write!(f, " (by its answers): {steps}"),
            Verdict::NotTested(why) => write!(f, ": {why}"),
            Verdict::Broken(why) => {
                write!(f, "\n    done: {steps}\n    wrong: {why}\n    to mend it: {}", self.mend)
            }
            Verdict::Unclear(why) => write!(f, "\n    done: {steps}\n    why: {why}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        f.write_str(&self.summary())
    }
}
