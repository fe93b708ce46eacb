# system.conf of configs/system/rauc, for this board, and the keyring, where the gateway and it itself look for them.
FILESEXTRAPATHS:prepend:v2g-edge-os := "${V2G_EDGE_TREE}/configs/system/rauc:"

PACKAGE_ARCH:v2g-edge-os = "${MACHINE_ARCH}"

do_install:append:v2g-edge-os() {
    # meta-rauc's own is a comment without a certificate: a box that believed nobody could not be updated.
    if ! grep -q 'BEGIN CERTIFICATE' ${UNPACKDIR}/${RAUC_KEYRING_FILE}; then
        bbfatal "No certificate in ${RAUC_KEYRING_FILE}: set RAUC_KEYRING_FILE, or yocto-layer/scripts/development-keys ${TOPDIR}"
    fi
    install -d ${D}${sysconfdir}/rauc
    sed 's/^compatible=.*/compatible=${V2G_EDGE_COMPATIBLE}/' ${D}${nonarch_libdir}/rauc/system.conf > ${D}${sysconfdir}/rauc/system.conf
    rm ${D}${nonarch_libdir}/rauc/system.conf
    mv ${D}${nonarch_libdir}/rauc/$(basename ${RAUC_KEYRING_FILE}) ${D}${sysconfdir}/rauc/keyring.pem
}
