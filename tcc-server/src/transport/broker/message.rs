//! What is delivered: a CloudEvent 1.0 in binary mode, its attributes beside the payload and not around it.

use tcc_core::{Call, Operation};

use super::place::Place;

/// A message, the same in every attempt.
pub(super) struct Message {
    /// Who consumes it tells by this that it comes again.
    pub(super) id: String,
    /// What CloudEvents calls attributes, without the prefix that they have at a broker; the id is one.
    pub(super) attributes: Vec<(&'static str, String)>,
    /// The branch's own headers.
    pub(super) headers: Vec<(String, String)>,
    pub(super) data: Vec<u8>,
}

/// The type of the data. What brokers have a place of their own for is no attribute.
pub(super) const CONTENT_TYPE: &str = "application/json";

impl Message {
    /// The message that a call is; `None` for a check.
    pub(super) fn of(call: &Call, place: &Place, source: &str) -> Option<Self> {
        let branch = call.branch.as_ref()?;
        // Neither a gid nor a branch can hold the mark between them.
        let id = match call.operation {
            Operation::Confirm => format!("{}~{branch}", call.gid),
            Operation::Try | Operation::Cancel => format!("{}~{branch}~{}", call.gid, call.operation),
            Operation::Check => return None,
        };
        let mut attributes = vec![
            ("specversion", "1.0".to_owned()),
            ("id", id.clone()),
            ("source", source.to_owned()),
            ("type", place.option("type").unwrap_or("tcc.message").to_owned()),
        ];
        attributes.extend(place.option("subject").map(|subject| ("subject", subject.to_owned())));
        attributes.extend(call.traceparent.clone().map(|trace| ("traceparent", trace)));
        let data = call.payload.as_ref().map_or_else(Vec::new, |payload| payload.get().as_bytes().to_vec());
        Some(Self { id, attributes, headers: call.headers.clone(), data })
    }

    /// All that goes beside the data, by its names at a broker: nothing of a branch's own stands in for an attribute.
    pub(super) fn named<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        let is_ours = move |name: &str| {
            let name = name.to_ascii_lowercase();
            name == "content-type" || name.starts_with(&prefix.to_ascii_lowercase())
        };
        let own = self.headers.iter().filter(move |(name, _)| !is_ours(name));
        let own = own.map(|(name, value)| (name.clone(), &**value));
        let attributes = self.attributes.iter();
        own.chain(attributes.map(move |(name, value)| (format!("{prefix}{name}"), &**value)))
    }
}
