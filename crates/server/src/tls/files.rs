//! Reading certificates and keys, and noticing that they have changed.
//!
//! A change is seen by asking the file system again and again (`stat`), not by being told: that works on
//! every file system and through every symbolic link, such as those that Kubernetes swaps to
//! replace all files of a secret at once, and costs a few microseconds.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::TlsError;
use super::identity::{Identity, Material};
use super::keys::decrypted;

/// More than any bundle of authorities; a wrong path may name anything.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where certificates and keys are.
#[derive(Clone)]
pub struct Files {
    /// Certificates with their chains, and the files of their keys.
    pub identities: Vec<(PathBuf, PathBuf)>,
    /// What the keys are encrypted with.
    pub password: Option<String>,
    /// The authorities of clients' certificates.
    pub authorities: Option<PathBuf>,
    /// Lists of revoked certificates.
    pub revocations: Vec<PathBuf>,
}

/// What the files were when they were looked at: device, inode, size and times of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(Vec<Option<[i64; 6]>>);

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("identities", &self.identities).finish_non_exhaustive()
    }
}

impl Files {
    /// Looks at the files without reading them.
    pub fn look(&self) -> Seen {
        let identities = self.identities.iter().flat_map(|(chain, key)| [chain, key]);
        let paths = identities.chain(&self.authorities).chain(&self.revocations);
        Seen(paths.map(|path| fs::metadata(path).ok().map(|found| mark(&found))).collect())
    }

    /// Reads the files, and decrypts the keys, which may take a moment: an encrypted key is meant to
    /// take long.
    pub fn read(&self) -> Result<Material, TlsError> {
        let identities = self.identities.iter().map(|(chain, key)| {
            let text = read(key)?;
            Ok(Identity {
                name: chain.display().to_string(),
                chain: read(chain)?,
                key: decrypted(&text, self.password.as_deref(), &key.display().to_string())?,
            })
        });
        Ok(Material {
            identities: identities.collect::<Result<_, TlsError>>()?,
            authorities: self.authorities.as_deref().map(read).transpose()?.unwrap_or_default(),
            revocations: self
                .revocations
                .iter()
                .map(|path| read(path))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn mark(found: &fs::Metadata) -> [i64; 6] {
    [
        found.dev().cast_signed(),
        found.ino().cast_signed(),
        found.size().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime_nsec(),
    ]
}

/// The text of a file; what is not text is no PEM either, and is left out.
fn read(path: &Path) -> Result<String, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
