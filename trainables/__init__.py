"""The rank-allocation methods that come with autorank, one module for each method."""
