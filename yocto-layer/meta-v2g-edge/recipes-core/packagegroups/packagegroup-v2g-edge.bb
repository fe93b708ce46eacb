SUMMARY = "Everything that makes a box a gateway"
DESCRIPTION = "The gateway with serial lines, CAN and sessions, the box's own settings, and the tools to look at its buses."
HOMEPAGE = "https://v2g-edge.example"
BUGTRACKER = "https://v2g-edge.example/issues"
SECTION = "base"

inherit packagegroup

RDEPENDS:${PN} = "\
    iproute2 \
    v2g-edge \
    v2g-edge-doc \
    v2g-edge-serial \
    v2g-edge-system \
    v2g-edge-system-can \
    v2g-edge-system-firewall \
    v2g-edge-system-ssh \
"
