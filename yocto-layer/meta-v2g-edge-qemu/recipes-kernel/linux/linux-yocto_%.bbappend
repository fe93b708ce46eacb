# nooelint: oelint.file.requirenotfound - in meta-v2g-edge, which bitbake finds by BBPATH
require recipes-kernel/linux/v2g-edge-linux.inc

# The machine as linux-yocto knows it.
KMACHINE:v2g-edge-qemuarm64 = "qemuarm64"

FILESEXTRAPATHS:prepend:v2g-edge-qemuarm64 := "${THISDIR}/files:"
SRC_URI:append:v2g-edge-qemuarm64 = " file://v2g-edge-qemu.cfg"
