//! What the processes may do, and what they give up.
//!
//! control gives up everything. The [launcher](crate::launcher) keeps what the dataplane needs, to
//! hand it on, and becomes the dataplane's user.

use std::collections::HashSet;

use caps::{CapSet, Capability, errors::CapsError};
use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};

/// The capabilities that the dataplane needs.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// A user to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    uid: u32,
    gid: u32,
}

/// Fails unless this process may start a dataplane.
///
/// # Errors
/// It lacks the capabilities: says how to get them.
pub fn require() -> Result<(), Failure> {
    let have = caps::read(None, CapSet::Permitted).unwrap_or_default();
    if NEEDED.iter().all(|needed| have.contains(needed)) {
        return Ok(());
    }
    let program =
        std::env::current_exe().map_or("tapgate".into(), |path| path.display().to_string());
    Err(Failure::with(
        Code::Permission,
        format!(
            "CAP_NET_ADMIN and CAP_NET_RAW are needed to open devices and make TAPs\n\
             any of these gives them:\n  \
             sudo tapgate run FILE\n  \
             sudo setcap cap_net_admin,cap_net_raw+ep {program}\n  \
             a systemd unit such as examples/tapgate.service"
        ),
    ))
}

/// The account of the user `name` (or number), for the dataplane to run as. `None`: it runs as the
/// user that we are, because that is the one, or because we may not become another.
///
/// # Errors
/// There is no such user: says how to make one.
pub fn account(name: &str) -> Result<Option<Account>, Failure> {
    let may = caps::read(None, CapSet::Effective).unwrap_or_default();
    let switches = [Capability::CAP_SETUID, Capability::CAP_SETGID];
    let me = geteuid();
    if !switches.iter().all(|needed| may.contains(needed)) {
        if me.is_root() {
            tracing::warn!(
                "the dataplane runs as root, because CAP_SETUID and CAP_SETGID are missing, with \
                 which it would run as {name}; see CapabilityBoundingSet= in \
                 examples/tapgate.service"
            );
        }
        return Ok(None);
    }
    let user = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    let user =
        user.map_err(|error| Failure::new(format!("cannot look for user {name}: {error}")))?;
    let Some(user) = user else {
        return Err(Failure::new(format!(
            "there is no user {name} for the dataplane to run as\n\
             make one that is for nothing else, or name another with --user:\n  \
             sudo useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        )));
    };
    Ok((user.uid != me).then_some(Account {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// Gives up every capability for good; call it before the first thread starts, because
/// capabilities belong to threads.
///
/// # Errors
/// The kernel refuses.
pub fn renounce() -> Result<(), CapsError> {
    bound(&HashSet::new())?;
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set)?;
    }
    no_new_privileges()
}

/// Becomes `account` and gives up for good every capability but those that the dataplane needs.
/// What is started from here on has them as ambient capabilities. For a process of one thread.
///
/// # Errors
/// The kernel refuses: says what.
pub fn hand_down(account: Option<Account>) -> Result<(), String> {
    let needed = HashSet::from(NEEDED);
    let refused = |error: CapsError| format!("cannot give up capabilities: {error}");
    bound(&needed).map_err(refused)?;
    if let Some(Account { uid, gid }) = account {
        caps::securebits::set_keepcaps(true).map_err(refused)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setgroups(&[])
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .map_err(|error| {
                format!(
                    "cannot become user {uid} of group {gid}: {error}; name another with --user"
                )
            })?;
        caps::securebits::set_keepcaps(false).map_err(refused)?;
    }
    caps::set(None, CapSet::Inheritable, &needed).map_err(refused)?;
    caps::clear(None, CapSet::Effective).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &needed).map_err(refused)?;
    caps::set(None, CapSet::Ambient, &needed).map_err(refused)?;
    no_new_privileges().map_err(refused)
}

/// Bars the way back to any capability that is not in `kept`, as far as we may: without
/// CAP_SETPCAP (a file capability, a unit of the operator's own) no_new_privs bars it as well.
fn bound(kept: &HashSet<Capability>) -> Result<(), CapsError> {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all().difference(kept) {
            // The kernel may not know the newest ones.
            let _ = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    Ok(())
}

fn no_new_privileges() -> Result<(), CapsError> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| CapsError::from(format!("no_new_privs: {error}")))
}
