'use strict';

const path = require('node:path');

module.exports = require(path.join(__dirname, '..', 'peer', 'build', 'Release', 'tsfn_peer.node'));
