//! P2: calls that come again, one after the other and at once.

use super::play::{Body, Key, Play, Played, Said, broken};
use crate::Operation;
use Operation::{Cancel, Confirm, Try};

pub(super) async fn a_repeated_try_has_no_second_effect(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    repeated_try(play, &key).await?;
    play.clear(&key).await;
    Ok(())
}

async fn repeated_try(play: &mut Play<'_>, key: &Key) -> Played {
    let before = play.effect().await?;
    let reply = play.reserve(key).await?;
    let again = play.ask(key, Try, Body::Good).await?;
    let played = match again {
        Said::Done(_, second) if second == reply => play.came_to(&[&[Try]], before.as_ref(), Try).await,
        Said::Done(..) => broken("the repeat got another reply than the first"),
        said => broken(format!("the try was accepted, and its repeat answered {said}")),
    };
    if played.is_err() {
        play.clear(key).await;
    }
    played
}

pub(super) async fn a_repeated_confirm_has_no_second_effect(play: &mut Play<'_>) -> Played {
    repeated_end(play, Confirm).await
}

pub(super) async fn a_repeated_cancel_has_no_second_effect(play: &mut Play<'_>) -> Played {
    repeated_end(play, Cancel).await
}

async fn repeated_end(play: &mut Play<'_>, end: Operation) -> Played {
    let key = play.branch();
    play.reserve(&key).await?;
    let before = play.effect().await?;
    play.end(&key, end).await?;
    for _ in 0..2 {
        let again = play.ask(&key, end, Body::Good).await?;
        if !again.is_done() {
            return broken(format!(
                "the {end} was done, and its repeat answered {again}: it would be called for ever"
            ));
        }
    }
    play.came_to(&[&[end]], before.as_ref(), end).await
}

pub(super) async fn tries_at_once_have_one_effect(play: &mut Play<'_>) -> Played {
    let mut round = 0;
    while let Some(key) = play.rounds(round) {
        let before = play.effect().await?;
        let said = play.at_once(&key, &[Try, Try]).await?;
        let played = match &*said {
            [Said::Done(_, one), Said::Done(_, other)] if one == other => {
                play.came_to(&[&[Try]], before.as_ref(), Try).await
            }
            [Said::Done(..), Said::Done(..)] => broken("the two got different replies"),
            [one, other] => broken(format!("one was answered {one}, the other {other}")),
            _ => Ok(()),
        };
        play.clear(&key).await;
        played?;
        round += 1;
    }
    Ok(())
}

pub(super) async fn confirms_at_once_have_one_effect(play: &mut Play<'_>) -> Played {
    ends_at_once(play, Confirm).await
}

pub(super) async fn cancels_at_once_have_one_effect(play: &mut Play<'_>) -> Played {
    ends_at_once(play, Cancel).await
}

async fn ends_at_once(play: &mut Play<'_>, end: Operation) -> Played {
    let mut round = 0;
    while let Some(key) = play.rounds(round) {
        play.reserve(&key).await?;
        let before = play.effect().await?;
        let said = play.at_once(&key, &[end, end, end]).await?;
        if let Some(other) = said.iter().find(|said| !said.is_done()) {
            return broken(format!("of three at once one was answered {other}"));
        }
        play.came_to(&[&[end]], before.as_ref(), end).await?;
        round += 1;
    }
    Ok(())
}

/// The first call that arrives may bear any number, and so may the next.
pub(super) async fn the_attempt_is_for_logs_alone(play: &mut Play<'_>) -> Played {
    let third = Key { first_attempt: 3, ..play.branch() };
    let before = play.effect().await?;
    let first = play.ask(&third, Try, Body::Good).await?;
    let Said::Done(_, reply) = first else {
        return broken(format!("a try whose first two calls were lost was answered {first}"));
    };
    let one = Key { first_attempt: 1, ..third };
    let again = play.ask(&one, Try, Body::Good).await?;
    let played = match again {
        Said::Done(_, second) if second == reply => play.came_to(&[&[Try]], before.as_ref(), Try).await,
        said => broken(format!("its repeat, which was sent before it, was answered {said}")),
    };
    play.clear(&one).await;
    played
}

/// The row answers, not the payload: what would be refused now was accepted then.
pub(super) async fn an_accepted_try_stays_accepted(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    let reply = play.reserve(&key).await?;
    if play.needs_a_refusal().is_ok() {
        let again = play.ask(&key, Try, Body::Refused).await?;
        let same = matches!(&again, Said::Done(_, second) if *second == reply);
        if !same {
            play.clear(&key).await;
            return broken(format!(
                "its repeat, with a payload that would be refused now, was answered {again}"
            ));
        }
    }
    play.end(&key, Confirm).await?;
    let before = play.effect().await?;
    match play.ask(&key, Try, Body::Good).await? {
        Said::Done(_, second) if second == reply => play.came_to(&[&[]], before.as_ref(), Try).await,
        said => broken(format!("after the confirm its repeat was answered {said}")),
    }
}

/// The row answers, not the payload: what would be accepted now was refused then.
pub(super) async fn a_refusal_stays_a_refusal(play: &mut Play<'_>) -> Played {
    let key = play.branch();
    let reason = play.refusal(&key).await?;
    let before = play.effect().await?;
    let again = play.ask(&key, Try, Body::Refused).await?;
    if !matches!(&again, Said::Refused(_, second) if *second == reason) {
        play.clear(&key).await;
        return broken(format!("the repeat of a try refused for {reason:?} was answered {again}"));
    }
    let later = play.ask(&key, Try, Body::Good).await?;
    let played = if later.is_refused() {
        play.came_to(&[&[]], before.as_ref(), Try).await
    } else {
        broken(format!("its repeat, with a payload that would be accepted now, was answered {later}"))
    };
    play.clear(&key).await;
    played
}
