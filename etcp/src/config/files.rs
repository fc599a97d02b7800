//! The files of a configuration: the named file and those of its folder, or those of a named
//! folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::fault::{ConfigFault, ConfigPlace};

/// The maximum size of all files together, in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// The maximum number of files.
const MAX_FILES: usize = 256;

/// The extension of configuration files in a folder.
const EXTENSION: &str = "toml";

/// A configuration file that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConfigText {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Reads a file and then the files `*.toml` of the folder `FILE.d`, if there is one, or those of a
/// folder, in the order of their names.
pub(super) fn read(path: &Path) -> Result<Vec<ConfigText>, Vec<ConfigFault>> {
    let paths = paths(path).map_err(|fault| vec![fault])?;
    let (mut texts, mut faults, mut size) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        match read_file(&path) {
            Ok(text) => {
                size += text.len();
                texts.push(ConfigText { path, text });
            }
            Err(fault) => faults.push(fault),
        }
        if size > MAX_TEXT {
            faults.push(too_large(path_of_last(&texts)));
            break;
        }
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

fn path_of_last(texts: &[ConfigText]) -> &Path {
    texts.last().map_or(Path::new(""), |text| &text.path)
}

fn too_large(path: &Path) -> ConfigFault {
    let text = format!("the configuration is larger than {} KiB: remove something", MAX_TEXT >> 10);
    ConfigFault::new(ConfigPlace::whole(path), text)
}

/// Returns the files that a path stands for.
fn paths(path: &Path) -> Result<Vec<PathBuf>, ConfigFault> {
    if path.is_dir() {
        let found = files_of(path)?;
        if found.is_empty() {
            let text = format!("this folder has no file *.{EXTENSION}: create one");
            return Err(ConfigFault::new(ConfigPlace::whole(path), text));
        }
        return Ok(found);
    }
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let mut found = vec![path.to_owned()];
    let folder = PathBuf::from(folder);
    if folder.is_dir() {
        found.extend(files_of(&folder)?);
    } else if folder.symlink_metadata().is_ok() {
        let text = "this is not a folder, and would not be read: move it, or make it a folder";
        return Err(ConfigFault::new(ConfigPlace::whole(&folder), text));
    }
    Ok(found)
}

/// Returns the configuration files of a folder in the order of their names. Hidden files do not
/// count.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, ConfigFault> {
    let place = || ConfigPlace::whole(folder);
    let unreadable =
        |error: io::Error| ConfigFault::new(place(), format!("cannot read this folder: {error}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        if !is_hidden && Path::new(&name).extension().is_some_and(|it| it == EXTENSION) {
            found.push(folder.join(name));
        }
        if found.len() > MAX_FILES {
            let text = format!("this folder has more than {MAX_FILES} files: join some of them");
            return Err(ConfigFault::new(place(), text));
        }
    }
    found.sort();
    Ok(found)
}

fn read_file(path: &Path) -> Result<String, ConfigFault> {
    let fault = |text: String| ConfigFault::new(ConfigPlace::whole(path), text);
    let bytes = read_bytes(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            fault("there is no such file: create it, or name another one with --config".to_owned())
        }
        _ => fault(format!("cannot read this file: {error}")),
    })?;
    if bytes.len() > MAX_TEXT {
        return Err(too_large(path));
    }
    String::from_utf8(bytes).map_err(|error| {
        let until = error.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(&error.as_bytes()[..until]).into_owned();
        let text = "this is not UTF-8: save the file as UTF-8";
        ConfigFault::new(ConfigPlace::of(path, &good, until), text)
    })
}

/// Reads at most one byte more than is allowed, without waiting for the writer of a pipe.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: impl AsRef<[u8]>) {
        fs::write(path, text).unwrap();
    }

    fn faults(path: &Path) -> String {
        let faults = read(path).unwrap_err();
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(&format!("{}/", path.parent().unwrap().display()), "")
    }

    #[test]
    fn the_files_of_the_folder_follow_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        write(&file, "one");
        let names = |path: &Path| {
            let texts = read(path).unwrap().into_iter();
            texts.map(|text| text.text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&file), "one");
        let more = folder.path().join("a.toml.d");
        fs::create_dir(&more).unwrap();
        for (name, text) in
            [("20-b.toml", "three"), ("10-c.toml", "two"), (".x.toml", "no"), ("y.bak", "no")]
        {
            write(&more.join(name), text);
        }
        assert_eq!(names(&file), "one two three");
        assert_eq!(names(&more), "two three", "a folder alone");
        fs::remove_dir_all(&more).unwrap();
        write(&more, "four");
        assert!(faults(&file).starts_with("a.toml.d: this is not a folder"));
        fs::remove_file(&more).unwrap();
        std::os::unix::fs::symlink("nowhere", &more).unwrap();
        assert!(faults(&file).starts_with("a.toml.d: this is not a folder"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(faults(&path("none.toml")).starts_with("none.toml: there is no such file: "));
        fs::create_dir(path("empty")).unwrap();
        assert!(faults(&path("empty")).starts_with("empty: this folder has no file *.toml"));
        write(&path("large.toml"), "#".repeat(MAX_TEXT + 1));
        assert!(faults(&path("large.toml")).starts_with("large.toml: the configuration is larger"));
        write(&path("odd.toml"), b"a = 1\nb = \"\xe9\"\n");
        assert_eq!(
            faults(&path("odd.toml")),
            "odd.toml:2:6: this is not UTF-8: save the file as UTF-8"
        );
    }
}
