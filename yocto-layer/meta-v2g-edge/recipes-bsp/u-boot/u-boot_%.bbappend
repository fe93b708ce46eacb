require v2g-edge-u-boot.inc
