FILESEXTRAPATHS:prepend:v2g-edge-cm4 := "${THISDIR}/files:"
