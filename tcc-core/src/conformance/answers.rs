//! What every call is answered, when nothing goes wrong and when it cannot be read.

use super::play::{Body, Fault, Play, Played, Said, broken};
use crate::{Operation, Timestamp};
use Operation::{Cancel, Confirm, Try};

pub(super) async fn a_try_and_its_confirm_are_done(play: &mut Play<'_>) -> Played {
    plain(play, Confirm).await?;
    if play.something_moved() {
        return Ok(());
    }
    Err(Fault::Unclear("the effect is the same before and after: it shows nothing, give another".to_owned()))
}

pub(super) async fn a_try_and_its_cancel_are_done(play: &mut Play<'_>) -> Played {
    plain(play, Cancel).await
}

/// The first of all calls, by which every other is measured.
async fn plain(play: &mut Play<'_>, end: Operation) -> Played {
    let key = play.branch();
    for operation in [Try, end] {
        let before = play.effect().await?;
        let said = play.ask(&key, operation, Body::Good).await?;
        if !said.is_done() {
            return broken(format!("the {operation} was answered {said}, not 200"));
        }
        play.measure(operation, before.as_ref()).await?;
    }
    Ok(())
}

pub(super) async fn headers_that_nobody_knows_are_ignored(play: &mut Play<'_>) -> Played {
    let mut key = play.branch();
    key.headers = [("tcc-not-invented-yet", "1"), ("x-conformance", "\"of no meaning\"")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    for operation in [Try, Confirm] {
        let said = play.ask(&key, operation, Body::Good).await?;
        if !said.is_done() {
            play.clear(&key).await;
            return broken(format!(
                "with headers that it does not know, the {operation} was answered {said}"
            ));
        }
    }
    Ok(())
}

pub(super) async fn an_unreadable_try_is_refused(play: &mut Play<'_>) -> Played {
    play.needs_a_payload()?;
    let key = play.branch();
    let before = play.effect().await?;
    for which in ["", "repeated "] {
        let said = play.ask(&key, Try, Body::Unreadable).await?;
        if !said.is_refused() {
            play.clear(&key).await;
            return broken(match said {
                Said::Done(..) => "a payload that nobody can read was called reserved".to_owned(),
                said => format!(
                    "the {which}try was answered {said}, by which it is asked again until the deadline"
                ),
            });
        }
    }
    play.came_to(&[&[]], before.as_ref(), Try).await?;
    let said = play.ask(&key, Cancel, Body::Unreadable).await?;
    if said.is_done() {
        Ok(())
    } else {
        broken(format!("the cancel of the refused branch was answered {said}"))
    }
}

pub(super) async fn a_refusal_is_told_by_its_code(play: &mut Play<'_>) -> Played {
    play.needs_a_refusal()?;
    let key = play.branch();
    let said = play.ask(&key, Try, Body::Refused).await?;
    play.clear(&key).await;
    match said {
        Said::Refused(..) => Ok(()),
        Said::Done(..) => Err(Fault::Unclear("the payload that should be refused was accepted".to_owned())),
        said => broken(format!(
            "the try was answered {said}, which refuses nothing: it is asked again until the deadline"
        )),
    }
}

/// Branches whose names differ in nothing but what is easily lost: one is cancelled, and the other is not.
pub(super) async fn branches_are_told_apart(play: &mut Play<'_>) -> Played {
    play.branch();
    let made = play.made();
    let pairs = [
        ("the same gid with another branch", ["a", "a"], ["one", "two"]),
        ("the same branch of another gid", ["b", "c"], ["three", "three"]),
        ("a gid in capitals", ["d", "D"], ["four", "four"]),
        ("a branch in capitals", ["e", "e"], ["five", "FIVE"]),
        ("the same letters, split elsewhere", ["f", "f/"], ["/six", "six"]),
    ];
    for (what, gids, branches) in pairs {
        let [one, other] = [0, 1].map(|i| play.named(&format!("{made}/{}", gids[i]), branches[i]));
        play.reserve(&one).await?;
        let before = play.effect().await?;
        let said = play.ask(&other, Try, Body::Good).await?;
        if !said.is_done() {
            play.clear(&one).await;
            return broken(format!("{what}: its try was answered {said}"));
        }
        play.came_to(&[&[Try]], before.as_ref(), Try).await?;
        play.end(&one, Cancel).await?;
        let said = play.ask(&other, Confirm, Body::Good).await?;
        if !said.is_done() {
            play.clear(&other).await;
            return broken(format!("{what}: after the cancel of the first its confirm was answered {said}"));
        }
    }
    Ok(())
}

/// A moment that no clean-up minds: marks are far later.
pub(super) const LONG_AGO: Timestamp = Timestamp::from_millis(1);
