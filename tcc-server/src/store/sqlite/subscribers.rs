//! Who hears of what is published under a topic.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use tcc_core::TopicName;
use tcc_core::store::Subscription;
use tcc_core::topic::Subscriber;

/// Makes a change. Whether there was anything to change.
pub(super) fn change(connection: &Connection, change: &Subscription) -> rusqlite::Result<bool> {
    let changed = match change {
        Subscription::Put(Subscriber { topic, id, deliver }) => connection
            .prepare_cached(
                "INSERT INTO subscribers (topic, id, deliver) VALUES (?1, ?2, ?3)
                 ON CONFLICT (topic, id) DO UPDATE SET deliver = excluded.deliver WHERE deliver <> excluded.deliver",
            )?
            .execute(params![topic.as_str(), id.as_str(), deliver.as_str()])?,
        Subscription::Drop(topic, id) => connection
            .prepare_cached("DELETE FROM subscribers WHERE topic = ?1 AND id = ?2")?
            .execute(params![topic.as_str(), id.as_str()])?,
    };
    Ok(changed > 0)
}

/// Whether a change has nothing to change any more.
pub(super) fn stands(connection: &Connection, change: &Subscription) -> rusqlite::Result<bool> {
    Ok(match change {
        Subscription::Put(put) => read(connection, Some(&put.topic))?.contains(put),
        Subscription::Drop(topic, id) => !read(connection, Some(topic))?.iter().any(|left| left.id == *id),
    })
}

/// Those of a topic, or all of them.
pub(super) fn read(connection: &Connection, topic: Option<&TopicName>) -> rusqlite::Result<Vec<Subscriber>> {
    connection
        .prepare_cached(
            "SELECT topic, id, deliver FROM subscribers WHERE ?1 IS NULL OR topic = ?1 ORDER BY topic, id",
        )?
        .query_map([topic.map(TopicName::as_str)], |found| {
            Ok(Subscriber { topic: column(found, 0)?, id: column(found, 1)?, deliver: column(found, 2)? })
        })?
        .collect()
}

fn column<T>(found: &Row<'_>, number: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = found.get(number)?;
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(number, Type::Text, Box::new(error)))
}
