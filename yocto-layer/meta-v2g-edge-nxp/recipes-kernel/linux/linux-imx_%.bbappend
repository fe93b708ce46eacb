# nooelint: oelint.file.requirenotfound - in meta-v2g-edge, which bitbake finds by BBPATH
require recipes-kernel/linux/v2g-edge-linux.inc
require v2g-edge-imx.inc
