//! A TUN device: a network interface whose packets a program reads and writes.
//!
//! The kernel needs a single ioctl for it; README.md says why it is made by hand.

#![allow(unsafe_code, reason = "no library wraps the ioctl of a TUN device")]

use std::ffi::{c_int, c_short};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::netns::explain;

// From linux/if_tun.h.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
/// IP packets, not Ethernet frames.
const IFF_TUN: c_short = 0x0001;
/// No header before the packet.
const IFF_NO_PI: c_short = 0x1000;
/// Fails if a device of this name exists.
const IFF_TUN_EXCL: c_short = 0x8000_u16 as c_short;

/// `struct ifreq`, as TUNSETIFF uses it: a name with its final NUL, and flags in a union.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: c_short,
    rest: [u8; 22],
}

/// A device that exists as long as this value.
#[derive(Debug)]
pub(crate) struct Tun {
    fd: OwnedFd,
}

impl Tun {
    /// Creates the device in the namespace of the calling thread.
    pub(crate) fn create(name: &str) -> Result<Self, String> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open("/dev/net/tun", flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => format!(
                "cannot open /dev/net/tun: {error}; load the module with 'modprobe tun', \
                 or give the container the device"
            ),
            _ => explain("open /dev/net/tun", error.into()),
        })?;
        let mut request = InterfaceRequest {
            name: [0; 16],
            flags: IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL,
            rest: [0; 22],
        };
        let bytes = name.as_bytes();
        let place = request.name.get_mut(..bytes.len()).filter(|place| place.len() < 16);
        place.ok_or("the name of the device is too long")?.copy_from_slice(bytes);
        // SAFETY: TUNSETIFF reads and writes one struct ifreq, which `request` matches in size and
        // layout, and keeps no pointer to it.
        let made = unsafe { ioctl(&fd, Updater::<TUNSETIFF, _>::new(&mut request)) };
        made.map_err(|error| match error {
            Errno::BUSY => format!("the device {name} exists already: choose another name"),
            _ => explain(&format!("make the TUN device {name}"), error.into()),
        })?;
        Ok(Self { fd })
    }

    /// Reads one packet, without waiting.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Writes one packet; the kernel takes it completely or not at all.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, packet)?;
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
