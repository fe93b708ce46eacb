# nooelint: oelint.file.requirenotfound - in meta-v2g-edge, which bitbake finds by BBPATH
require recipes-bsp/u-boot/v2g-edge-u-boot.inc

FILESEXTRAPATHS:prepend:v2g-edge-imx8mp := "${THISDIR}/files:"
SRC_URI:append:v2g-edge-imx8mp = " file://v2g-edge-imx8mp.cfg"
