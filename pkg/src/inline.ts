/** The script for pages opened from `file://`: elements and engine in one classic script, without modules, workers or requests. */

import * as shirube from "./index.js";
import "./ui/index.js";

Object.assign(globalThis, { shirube });
