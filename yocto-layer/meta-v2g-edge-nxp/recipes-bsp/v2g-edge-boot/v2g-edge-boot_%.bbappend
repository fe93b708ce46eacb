FILESEXTRAPATHS:prepend:v2g-edge-imx8mp := "${THISDIR}/files:"
