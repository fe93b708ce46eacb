# nooelint: oelint.file.requirenotfound - in meta-v2g-edge, which bitbake finds by BBPATH
require recipes-kernel/linux/v2g-edge-linux.inc

FILESEXTRAPATHS:prepend:v2g-edge-cm4 := "${THISDIR}/files:"
SRC_URI:append:v2g-edge-cm4 = " file://v2g-edge-cm4.cfg"
