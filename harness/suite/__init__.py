"""From a suite file to the cells that it asks for."""
