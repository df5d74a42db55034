/** Runs programs that a model wrote. A module of its own, so that no program can look into it by reflection. */
module astraios.sandbox {
    requires jdk.compiler;
}
