//! P5 and P6: the local transaction, as far as it can be seen from outside, and confirms of what was never tried.

use super::play::{Body, Fault, Play, Played, Said, broken};
use crate::Operation;
use Operation::{Cancel, Confirm, Try};

pub(super) async fn a_refused_try_leaves_nothing(play: &mut Play<'_>) -> Played {
    play.needs_a_refusal()?;
    let key = play.branch();
    let Some(before) = play.effect().await? else {
        return Err(Fault::NotTested("no effect was given, and answers do not show it"));
    };
    play.refusal(&key).await?;
    let played = play.came_to(&[&[]], Some(&before), Try).await;
    play.clear(&key).await;
    played
}

/// A confirm or cancel whose payload cannot be read either goes by what the try has kept, or does nothing and can be
/// done later: a guard row that was moved all the same would call it done then.
pub(super) async fn what_cannot_be_read_is_not_done(play: &mut Play<'_>) -> Played {
    play.needs_a_payload()?;
    for end in [Confirm, Cancel] {
        let key = play.branch();
        play.reserve(&key).await?;
        let before = play.effect().await?;
        let said = play.ask(&key, end, Body::Unreadable).await?;
        let Said::Done(..) = said else {
            play.came_to(&[&[]], before.as_ref(), end).await?;
            let later = play.ask(&key, end, Body::Good).await?;
            if !later.is_done() {
                return broken(format!(
                    "the {end} could not be read; with its payload it was answered {later}"
                ));
            }
            play.came_to(&[&[end]], before.as_ref(), end).await?;
            continue;
        };
        if let Err(Fault::Broken(why)) = play.came_to(&[&[end]], before.as_ref(), end).await {
            return broken(format!("a {end} that nobody can read was called done, and {why}"));
        }
    }
    Ok(())
}

pub(super) async fn a_confirm_without_its_try_is_an_alarm(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    let before = play.effect().await?;
    for _ in 0..2 {
        let said = play.ask(&key, Confirm, Body::Good).await?;
        alarm(&said, "a confirm whose try never came")?;
    }
    play.came_to(&[&[]], before.as_ref(), Confirm).await
}

pub(super) async fn a_confirm_of_a_refused_try_is_an_alarm(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    play.refusal(&key).await?;
    let before = play.effect().await?;
    let said = play.ask(&key, Confirm, Body::Good).await?;
    alarm(&said, "a confirm whose try was refused")?;
    play.came_to(&[&[]], before.as_ref(), Confirm).await
}

fn alarm(said: &Said, what: &str) -> Played {
    if said.is_done() {
        return broken(format!("{what} was called done"));
    }
    if said.is_alarm() {
        return Ok(());
    }
    broken(format!("{what} was answered {said}: only 409 is an alarm for it"))
}
