//! Becoming another user, once everything that needs the first one is done.
//!
//! Owns: looking up names and numbers, and changing all ids of the process. Workers are started
//! later and inherit them. Must not know: what had to be opened before.
//!
//! nix does it, as it calls the C library: the kernel's own calls change one thread only.

use std::ffi::CString;

use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgrouplist, setgroups, setresgid, setresuid,
};
use rsgi_config::Account;

use crate::error::IdentityError;
use crate::pid_file::PidFile;
use crate::sockets::Listener;

/// A user and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Identity {
    /// Looks up whom to become; `None` if neither is given.
    ///
    /// Without a group it is the user's own. The supplementary groups are the user's, or just the
    /// group if the user has no name.
    pub fn find(
        user: Option<&Account>,
        group: Option<&Account>,
    ) -> Result<Option<Self>, IdentityError> {
        let gid = group.map(find_group).transpose()?;
        let Some(user) = user else {
            return Ok(gid.map(|gid| Self { uid: geteuid(), gid, groups: vec![gid] }));
        };
        let lookup = |source| IdentityError::Lookup { account: user.to_string(), source };
        let (uid, entry) = match user {
            Account::Id(id) => {
                (Uid::from_raw(*id), User::from_uid(Uid::from_raw(*id)).map_err(lookup)?)
            }
            Account::Name(name) => {
                let entry = User::from_name(name).map_err(lookup)?;
                let entry = entry.ok_or_else(|| IdentityError::NoUser { user: name.clone() })?;
                (entry.uid, Some(entry))
            }
        };
        let own = entry.as_ref().map(|entry| entry.gid);
        let gid = gid.or(own).ok_or_else(|| IdentityError::NoGroupOf { user: user.to_string() })?;
        let groups = match entry.and_then(|entry| CString::new(entry.name).ok()) {
            Some(name) => getgrouplist(&name, gid).map_err(lookup)?,
            None => vec![gid],
        };
        Ok(Some(Self { uid, gid, groups }))
    }

    /// Gives the user what was made for it, and becomes it for good: all of its ids, in all
    /// threads.
    pub fn assume(
        &self,
        listeners: &[Listener],
        pid_file: Option<&PidFile>,
    ) -> Result<(), IdentityError> {
        if self.is_assumed() {
            return Ok(());
        }
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        let given = listeners
            .iter()
            .try_for_each(|listener| listener.give_to(uid, gid))
            .and_then(|()| pid_file.map_or(Ok(()), |file| file.give_to(uid, gid)));
        given.map_err(|source| IdentityError::Give { uid, gid, source })?;
        // The groups first: whoever is no longer root cannot change them.
        setgroups(&self.groups)
            .and_then(|()| setresgid(self.gid, self.gid, self.gid))
            .and_then(|()| setresuid(self.uid, self.uid, self.uid))
            .map_err(|source| IdentityError::Assume { uid, gid, source })?;
        log::info!(target: "rsgi", "Running as user {uid} and group {gid}");
        Ok(())
    }

    /// Whether the process is that user: a container's, say, that is told its own.
    fn is_assumed(&self) -> bool {
        !self.uid.is_root() && (geteuid(), getegid()) == (self.uid, self.gid)
    }
}

fn find_group(group: &Account) -> Result<Gid, IdentityError> {
    let name = match group {
        Account::Id(id) => return Ok(Gid::from_raw(*id)),
        Account::Name(name) => name,
    };
    let entry = Group::from_name(name)
        .map_err(|source| IdentityError::Lookup { account: name.clone(), source })?;
    let entry = entry.ok_or_else(|| IdentityError::NoGroup { group: name.clone() })?;
    Ok(entry.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, String> {
        let read = |text: &str| text.parse::<Account>().unwrap();
        let (user, group) = (user.map(read), group.map(read));
        Identity::find(user.as_ref(), group.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_and_its_number_are_the_same_user() {
        let root = find(Some("root"), None).unwrap().unwrap();
        assert_eq!((root.uid.as_raw(), root.gid.as_raw()), (0, 0));
        assert!(root.groups.contains(&Gid::from_raw(0)));
        assert_eq!(find(Some("0"), None), Ok(Some(root)));
        assert_eq!(find(None, None), Ok(None));
    }

    #[test]
    fn a_group_replaces_the_users_own() {
        let root = find(Some("root"), Some("54322")).unwrap().unwrap();
        assert_eq!(root.gid, Gid::from_raw(54322));
        assert!(root.groups.contains(&Gid::from_raw(54322)));
    }

    #[test]
    fn a_number_without_a_name_needs_a_group() {
        let nobody = find(Some("54321"), Some("54322")).unwrap().unwrap();
        assert_eq!((nobody.uid.as_raw(), nobody.groups), (54321, vec![Gid::from_raw(54322)]));
        let message = find(Some("54321"), None).unwrap_err();
        assert_eq!(message, "the user has no entry that says its group, add --group: `54321`");
    }

    #[test]
    fn who_does_not_exist_is_named() {
        assert_eq!(
            find(Some("no-such-user"), None).unwrap_err(),
            "there is no such user: `no-such-user`"
        );
        assert_eq!(
            find(Some("root"), Some("no-such-group")).unwrap_err(),
            "there is no such group: `no-such-group`"
        );
    }
}
